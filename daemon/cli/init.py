"""Makes a new site: a folder with a configuration and the folders that it names. It changes no existing file."""

from pathlib import Path

from daemon.cli.output import short_path
from daemon.config.load import load_config
from daemon.config.packaged_files import packaged_file

# Other users may look into these folders and not write: the daemon refuses a landing folder that is open to all.
MODE = 0o755


class SiteError(Exception):
    """A site cannot be made; the message names the next step."""


def create(path: Path, engine: str) -> list[Path]:
    """Writes a configuration to `path` and makes its folders. Returns these folders. Raises SiteError."""
    path = path.expanduser().absolute()
    path.parent.mkdir(mode=MODE, parents=True, exist_ok=True)
    text = packaged_file("config.toml").read_text(encoding="utf-8")
    if engine:
        text = text.replace('\nengine = "spark"\n', f'\nengine = "{engine}"\n')
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SiteError(f"{path} exists already, and nothing was changed; edit it, or name another folder") from None
    config = load_config(path, {})
    landing = config.landing
    folders = [landing.path, landing.trigger_path, landing.archive_path, landing.rejected_path]
    folders += [config.settings.folder, config.ledger_path.parent, config.log.path.parent]
    for folder in folders:
        folder.mkdir(mode=MODE, parents=True, exist_ok=True)
    return folders


def next_steps(path: Path, folders: list[Path]) -> str:
    """Returns the message about a new site: its parts, and the next three steps."""
    site = path.expanduser().absolute().parent
    parts = ", ".join(f"{folder.relative_to(site)}/" for folder in folders)
    is_here = site == Path.cwd()
    command = "lakegate" if is_here else f"lakegate --config {short_path(path.absolute())}"
    return f"""\
{short_path(path.absolute())} is written, with {parts}
next
  1  {command} check
     says whether this machine can do what {path.name} says
  2  {command} sources new NAME --from FILE…
     drafts a source from samples of your files; three example sources ship
  3  {command} run
     then copy files into {short_path(folders[0])}/ and an empty file, such as day.done, into
     {short_path(folders[1])}/"""
