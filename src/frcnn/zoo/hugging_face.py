"""Models that others published on huggingface.co, named as ``hf://owner/name``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from frcnn.errors import UserError

SCHEME = "hf://"
MODEL = "model.keras"  # the file that is taken where none is named

_FORM = re.compile(
    SCHEME
    + r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[^@/]+))?(/(?P<file>[^@]*[^@/]\.keras))?/?"
)


@dataclass(frozen=True)
class HubReference:
    """What ``hf://owner/name@revision/file.keras`` names; revision and file may be left out.

    Attributes:
        repository: ``owner/name``.
        revision: a branch, tag or commit; None for the main branch.
        file: the path of a ``.keras`` file in the repository, or None.
    """

    repository: str
    revision: str | None = None
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubReference:
        """Read a reference, in the syntax of Hugging Face's own tools.

        Raises:
            UserError: it is none.
        """
        form = _FORM.fullmatch(text)
        if form is None:
            raise UserError(
                f"{text} names no model on the Hugging Face hub; "
                "write hf://OWNER/NAME, or hf://OWNER/NAME@REVISION/FILE.keras."
            )
        revision = form["revision"]
        return cls(form["repository"], revision and unquote(revision), form["file"])


def fetch_from_hub(reference: str) -> Path:
    """The ``.keras`` file that a reference names, from the hub or the copy fetched before.

    The file is kept in the folder that all users of the library ``huggingface_hub`` share.

    Args:
        reference: ``hf://owner/name``, of which ``model.keras`` is taken, or else the only
            ``.keras`` file; or ``hf://owner/name/file.keras``; either with ``@revision`` after
            the name.

    Raises:
        UserError: it names no model, the library is not installed, or the hub does not give it.
    """
    named = HubReference.parse(reference)
    try:
        import huggingface_hub as hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise UserError(f'{reference} needs another package: pip install "frcnn[hub]".') from error
    try:
        try:
            return _download(hub, named, named.file or MODEL)
        except LocalEntryNotFoundError:  # a kind of EntryNotFoundError: the hub was not reached
            raise
        except EntryNotFoundError:
            if named.file is not None:
                raise
            return _download(hub, named, _only_model(hub, named, reference))
    except UserError:
        raise
    except Exception as error:  # a failed connection is the error of the client in use there
        raise UserError(f"{reference} cannot be fetched: {_reason(error, named)}.") from error


def _download(hub, named: HubReference, file: str) -> Path:
    return Path(
        hub.hf_hub_download(named.repository, file, revision=named.revision, library_name="frcnn")
    )


def _only_model(hub, named: HubReference, reference: str) -> str:
    files = hub.list_repo_files(named.repository, revision=named.revision)
    models = [file for file in files if file.endswith(".keras")]
    if not models:
        raise UserError(f"{reference} holds no .keras file, so there is no model to take.")
    if len(models) > 1:
        raise UserError(
            f"{reference} holds several models, {', '.join(models)}; "
            f"name one as hf://{named.repository}/FILE.keras."
        )
    return models[0]


def _reason(error: Exception, named: HubReference) -> str:
    """What went wrong, in a few words."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "its owner gives access on request; ask on its page, then run hf auth login"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is private; if it is yours, run hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {named.revision}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "the hub cannot be reached, and the file was not fetched before"
    if isinstance(error, errors.EntryNotFoundError):
        return f"the repository has no file {named.file}"
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
