"""Upload of a dataset directory to the Hugging Face hub: only on request, and private by default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_engine.dataset.shards import read_manifest
from mmrl.core.config import InputError
from mmrl.core.files import sha256_of

OURS = ["shards/*", "media/*", "quarantine/*", "dropped.parquet"]  # of an earlier dataset: the upload replaces them


def push(directory: Path, repo: str, *, private: bool = True, quarantine: bool = False) -> str:
    """Upload the dataset to `repo` ("name/dataset"); its address. The card becomes the README of the repository.

    The quarantine, which holds raw rows of the sources, is uploaded only if `quarantine` is True. Files of an earlier
    dataset in the repository are deleted. An existing repository whose visibility differs from `private` is an
    InputError.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    check_whole(directory)
    hidden = ["card.md", ".*", "*/.*", *([] if quarantine else ["quarantine/*"])]
    api = HfApi()
    try:
        address = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        _check_visible(api.repo_info(repo, repo_type="dataset").private, repo, private=private)
        api.upload_folder(
            repo_id=repo, folder_path=directory, repo_type="dataset", ignore_patterns=hidden, delete_patterns=OURS
        )
        card = directory / "card.md"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo, repo_type="dataset")
    except HFValidationError as error:
        raise InputError(f"{repo!r} is not a name of a repository: {error}") from None
    except LocalTokenNotFoundError:
        raise InputError("you are not logged in to the hub; run `hf auth login` or set HF_TOKEN") from None
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise InputError(f"the upload of {directory} failed: {error}") from None
    return str(address)


def check_whole(directory: Path) -> None:
    """Raise InputError if a file is missing or differs from the manifest."""
    manifest = read_manifest(directory)
    for file in (*manifest["shards"], *manifest["other_files"]):
        path = directory / file["path"]
        if not path.is_file() or sha256_of(path) != file["sha256"]:
            raise InputError(f"{path} has changed since it was written; build the dataset again before you publish it")
    _check_media(directory, manifest)


def _check_media(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Raise InputError if number or size of the media differ from the manifest, or one of a shard is missing."""
    sizes = {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in directory.glob("media/**/*")
        if path.is_file()
    }
    wanted = manifest["media"]
    expected = (0, 0) if wanted["embedded"] else (wanted["files"], wanted["bytes"])
    missing = sorted(
        {path for shard in manifest["shards"] for path in _named(directory / shard["path"])} - sizes.keys()
    )
    if missing or (len(sizes), sum(sizes.values())) != expected:
        counts = f"{len(sizes):,} files of {sum(sizes.values()):,} bytes, not {expected[0]:,} of {expected[1]:,}"
        lacks = f"; {missing[0]} is missing" if missing else ""
        raise InputError(
            f"the media of {directory} have changed since they were written ({counts}{lacks}); build the dataset again"
        )


def _named(shard: Path) -> set[str]:
    """The paths of the media of a shard."""
    file = pq.ParquetFile(shard)
    columns = [column.path for column in map(file.schema.column, range(len(file.schema)))]
    media = file.read(columns=[path for path in columns if path.startswith("media.") and path.endswith(".path")])
    return {path for chunk in media["media"].chunks for path in chunk.flatten().field("path").to_pylist() if path}


def _check_visible(is_private: bool | None, repo: str, *, private: bool) -> None:
    if private and not is_private:
        raise InputError(
            f"{repo} exists and is public, so everybody would see this; give --public, choose another name, or make it "
            "private in its settings on the hub"
        )
    if is_private and not private:
        raise InputError(f"{repo} exists and is private; leave --public out, or make it public in its settings")
