"""Reading YAML files that people write."""

from pathlib import Path
from typing import Any

import yaml

from frugal.config.errors import describe
from frugal.errors import FrugalError, first_line


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        FrugalError: the file is missing, is not UTF-8, is not YAML, repeats a key, or is not a mapping.
    """
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except OSError as error:
        raise FrugalError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FrugalError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise FrugalError(
            f"{path}:{line} not valid YAML: {getattr(error, 'problem', None) or first_line(error)}"
        ) from None
    if not isinstance(data, dict):
        raise FrugalError(f"{path}: expected keys and values, got {describe(data)}")
    return data


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one; here that is an error."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)
