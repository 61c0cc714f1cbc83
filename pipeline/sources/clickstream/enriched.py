"""Each event with what its item was at that millisecond, and where in the category tree. Declarations only."""

from pipeline.model import Derived, Enriched, Hierarchy, HierarchyJoin, PointInTimeJoin, Rule

# Values of properties are text of whatever kind: only what has the form is cast, everything else is unknown.
NUMBER = r"value RLIKE '^[0-9]{1,18}\\z'"
PRICE = r"value RLIKE '^n[0-9]{1,15}([.][0-9]{1,3})?\\z'"

CATEGORIES = Hierarchy(
    name="categories",
    upstream="category_tree",
    id="categoryid",
    parent="parentid",
    description="Each category with the top of its branch.",
)


def property_of_the_item(prefix: str, which: str, give: Derived) -> PointInTimeJoin:
    """Declares the join of one property: its value at the event's instant, and none before the first."""
    return PointInTimeJoin(
        feed="item_properties",
        on=("itemid",),
        prefix=prefix,
        before_first="none",
        where=f"property = {which}",
        select=(give,),
    )


ENRICHED_EVENTS = Enriched(
    name="enriched_events",
    upstream="events",
    description="An event with its item's category, availability and price as they were at its millisecond, and the category's place in the tree.",
    as_of="event_time",
    joins=(
        property_of_the_item(
            "category_",
            "'categoryid'",
            Derived("category_id", "BIGINT", f"CASE WHEN {NUMBER} THEN CAST(value AS BIGINT) END"),
        ),
        property_of_the_item(
            "available_",
            "'available'",
            Derived("available", "BOOLEAN", "CASE value WHEN '1' THEN true WHEN '0' THEN false END"),
        ),
        property_of_the_item(
            "price_",
            "$price_property",
            Derived("price", "DECIMAL(18,3)", f"CASE WHEN {PRICE} THEN CAST(substring(value, 2) AS DECIMAL(18,3)) END"),
        ),
        HierarchyJoin(hierarchy="categories", on="category_id", parent="parent_category_id", root="root_category_id"),
    ),
    derived=(Derived("event_date", "DATE", "to_date(event_time)"),),
    checks=tuple(
        Rule(
            f"{name}_is_of_its_instant",
            f"_{name}_from <= event_time AND event_time < _{name}_to",
            where=f"_{name}_from IS NOT NULL",
            description="the version that an event sees began by its time and had not ended",
        )
        for name in ("category", "available", "price")
    ),
)
