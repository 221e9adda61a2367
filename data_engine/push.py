"""A dataset directory on the Hugging Face hub: only when it is asked for by name, and private unless said otherwise."""

from __future__ import annotations

from pathlib import Path

from data_engine.files import sha256_of
from data_engine.shards import read_manifest
from mmrl.config import InputError


def push(directory: Path, repo: str, *, private: bool = True, quarantine: bool = False) -> str:
    """Upload the dataset to `repo` ("name/dataset"); its address. The card becomes the README of the repository.

    What is broken stays here unless `quarantine` is asked for: it holds rows as their sources wrote them.
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
        api.upload_folder(repo_id=repo, folder_path=directory, repo_type="dataset", ignore_patterns=hidden)
        card = directory / "card.md"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo, repo_type="dataset")
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no name of a repository: {error}") from None
    except LocalTokenNotFoundError:
        raise InputError("the hub knows nobody here; run `hf auth login` or set HF_TOKEN") from None
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        raise InputError(f"the hub did not take {directory}: {error}") from None
    return str(address)


def check_whole(directory: Path) -> None:
    """Refuse a directory whose files are not those of its manifest."""
    manifest = read_manifest(directory)
    for file in (*manifest["shards"], *manifest["other_files"]):
        path = directory / file["path"]
        if not path.is_file() or sha256_of(path) != file["sha256"]:
            raise InputError(f"{path} is not as it was written; build the dataset again before others get it")
