"""ID tables on the Hugging Face hub: beside a model, or as a data set."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi

from letter_fast import validation
from letter_fast.model.pretrained import hub_file

from .table_file import TableParts, write_table
from .trie import PrefixTrie

TABLE_FILE = "ids.parquet"
REPOSITORIES = ("model", "dataset")


def push(
    table: TableParts,
    repo_id: str,
    *,
    file: str,
    repo_type: str,
    license: str | None,
    commit_message: str,
    private: bool | None,
    token: str | None,
    revision: str | None,
) -> str:
    """One commit with the table, and a card if the repository has none. -> its address"""
    validation.choice(repo_type, REPOSITORIES, "repo_type")
    if not file.endswith(".parquet"):
        raise ValueError(f"a table's name must end in .parquet, got {file!r}")
    api = HfApi(token=token)
    made = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    repo_id = made.repo_id
    with TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, table)
        if not api.file_exists(repo_id, "README.md", repo_type=repo_type, revision=revision):
            card = Path(folder) / "README.md"
            card.write_text(card_text(table, repo_id, file, repo_type, license), encoding="utf-8")
        return str(
            api.upload_folder(
                repo_id=repo_id,
                repo_type=repo_type,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
            )
        )


def fetch(repo_id: str, file: str, repo_type: str, hub: dict[str, Any]) -> Path:
    """The table's file in the hub's cache. hub: options of `hf_hub_download`."""
    validation.choice(repo_type, REPOSITORIES, "repo_type")
    return hub_file(repo_id, file, repo_type=repo_type, **hub)


def card_text(
    table: TableParts, repo_id: str, file: str, repo_type: str, license: str | None
) -> str:
    """The README.md of a repository that holds little else than a table."""
    licensed = f"license: {license}\n" if license else ""
    place = "" if repo_type == "model" else f', repo_type="{repo_type}"'
    named = "" if file == TABLE_FILE else f', file="{file}"'
    removed = len(table.codes) - int(table.is_live.sum())
    rows = {
        "items": f"{len(table.codes):,}" + (f", {removed:,} of them removed" if removed else ""),
        "codes of each level": ", ".join(map(str, table.sizes)),
        "distinct IDs": f"{len(PrefixTrie(table.codes, table.sizes)):,}",
        "collisions were resolved by": table.metadata.get("policy", "not known"),
        "made by the model": table.metadata.get("model", "not known"),
    }
    facts = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
{licensed}tags:
- semantic-ids
- generative-recommendation
---

# Semantic IDs

Which tuple of codes names which item; made with letter-fast.

```python
import letter_fast as lf

ids = lf.SemanticIds.from_pretrained("{repo_id}"{place}{named})
```

| | |
|---|---|
{facts}

Licence: {license or "not stated; it is for who publishes the table to say"}.
"""
