-- The questions that the daemon asks at each tick. Views hold no data: every upgrade of the ledger creates them anew.
-- INDEXED BY names the index of the few open batches: SQLite would read all published ones.

-- Per source the ready batch whose turn it is: oldest batch date, then revision, then arrival.
DROP VIEW IF EXISTS next_ready;
CREATE VIEW next_ready AS
SELECT batch_id
FROM (
    SELECT batch_id, row_number() OVER (PARTITION BY source ORDER BY batch_date, revision, batch_seq) AS place
    FROM batch
    WHERE state = 'READY'
)
WHERE place = 1;

-- Ready batches whose content another batch has published.
DROP VIEW IF EXISTS ready_duplicates;
CREATE VIEW ready_duplicates AS
SELECT ready.batch_id AS batch_id, min(published.batch_id) AS published_id
FROM batch AS ready
JOIN batch AS published USING (identity)
WHERE ready.state = 'READY' AND ready.identity <> '' AND published.batch_id <> ready.batch_id
    AND published.published_at IS NOT NULL
GROUP BY ready.batch_id;

-- Batches that are decided and whose files are still in the claim folder.
DROP VIEW IF EXISTS awaiting_archive;
CREATE VIEW awaiting_archive AS
SELECT batch_id FROM batch INDEXED BY batch_awaiting_archive WHERE is_archived = 0 AND state IN ('PUBLISHED', 'DUPLICATE', 'REJECTED');

-- Published batches whose on_published command has not ended.
DROP VIEW IF EXISTS awaiting_hook;
CREATE VIEW awaiting_hook AS
SELECT batch_id FROM batch INDEXED BY batch_awaiting_hook WHERE hook_done = 0 AND published_at IS NOT NULL;

-- Rejected batches that still need a person: not dismissed, and some feed of their files was not published later for
-- their source and date. A batch without source, date or feeds stays until it is dismissed.
DROP VIEW IF EXISTS open_rejections;
CREATE VIEW open_rejections AS
WITH waiting AS (
    SELECT batch_id, batch_seq, source, batch_date FROM batch WHERE state = 'REJECTED' AND dismissed_at IS NULL
),
-- One row per feed of such a date, and not one per pair of batches: a streamed feed has thousands of batches a day.
last_published AS MATERIALIZED (
    SELECT batch.source, batch.batch_date, file.feed, max(batch.batch_seq) AS batch_seq
    FROM (SELECT DISTINCT source, batch_date FROM waiting WHERE batch_date IS NOT NULL) AS dates
    JOIN batch INDEXED BY batch_of_date ON batch.source = dates.source AND batch.batch_date = dates.batch_date
    JOIN file ON file.batch_id = batch.batch_id AND file.feed <> ''
    WHERE batch.published_at IS NOT NULL
    GROUP BY batch.source, batch.batch_date, file.feed
)
SELECT batch_id
FROM waiting
WHERE batch_date IS NULL
    OR NOT EXISTS (SELECT 1 FROM file WHERE file.batch_id = waiting.batch_id AND feed <> '')
    OR EXISTS (
        SELECT 1
        FROM file AS refused
        LEFT JOIN last_published AS published
            ON published.source = waiting.source AND published.batch_date = waiting.batch_date
            AND published.feed = refused.feed
        WHERE refused.batch_id = waiting.batch_id AND refused.feed <> ''
            AND (published.batch_seq IS NULL OR published.batch_seq < waiting.batch_seq)
    );
