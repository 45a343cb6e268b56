"""Reading YAML files that people write."""

from pathlib import Path
from typing import Any

import yaml

from frugal.config.errors import describe
from frugal.config.limits import MOST_VALUES, check_limits
from frugal.errors import FrugalError, first_line


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        FrugalError: the file is missing, is not UTF-8, is not YAML, repeats a key, is not a mapping, or passes a
            limit of `check_limits`.
    """
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
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
    except RecursionError:
        raise FrugalError(f"{path}: not valid YAML: nested too deeply") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # PyYAML's own, of a value that is not what its tag says: `!!timestamp x`, or 2001-13-01.
        raise FrugalError(f"{path}: not valid YAML: a value is not of its type ({first_line(error)})") from None
    check_limits(data, file=str(path))
    if not isinstance(data, dict):
        raise FrugalError(f"{path}: expected keys and values, got {describe(data)}")
    return data


class _Loader(yaml.SafeLoader):
    """YAML lets a later key silently replace an earlier one, and aliases multiply; here both are errors."""

    def __init__(self, stream):
        super().__init__(stream)
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent, index):
        event = self.peek_event()
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if node not in self.sizes:
                raise yaml.composer.ComposerError(None, None, "an alias within what it stands for", event.start_mark)
            return node
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        self.sizes[node] = 1 + sum(self.sizes[child] for child in children)
        if self.sizes[node] > MOST_VALUES:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES} values", event.start_mark)
        return node

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)
