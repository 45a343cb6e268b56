"""The JSON schema of a study, config/schema.json."""

from typing import Any

from pydantic.json_schema import models_json_schema

from frugal.config.registry import DatasetEntry, ModelEntry
from frugal.config.study import LONGEST_NAME, NAME, StudySettings
from frugal.kinds import KINDS

#: What an experiment has beside the settings of its runs, and its variants may have too.
IN_VARIANTS = ("recipe", "search")


def json_schema() -> dict[str, Any]:
    """The JSON schema of a study, for editors: an experiment has the keys of its kind, and variants take the same."""
    models = [StudySettings, DatasetEntry, ModelEntry]
    models += [model for kind in KINDS.values() for model in (kind.experiment, kind.run)]
    _, definitions = models_json_schema([(model, "validation") for model in models])
    definitions = definitions["$defs"]
    schema = definitions.pop(StudySettings.__name__)
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Frugal study", "$defs": definitions}
    for kind in KINDS.values():
        experiment, changes = definitions[kind.experiment.__name__], definitions.pop(kind.run.__name__)
        experiment["required"] = ["kind", *experiment["required"]]
        changes.pop("required", None)
        shared = {key: experiment["properties"][key] for key in IN_VARIANTS if key in experiment["properties"]}
        changes["properties"] |= shared
        definitions[f"{kind.run.__name__}Changes"] = changes
        variant = {"$ref": f"#/$defs/{kind.run.__name__}Changes"}
        experiment["properties"]["variants"]["additionalProperties"] = variant
    entries = [{"$ref": f"#/$defs/{kind.experiment.__name__}"} for kind in KINDS.values()]
    schema["properties"]["experiments"] |= {
        "propertyNames": {"pattern": f"^{NAME.pattern}$", "maxLength": LONGEST_NAME},
        "additionalProperties": {"oneOf": entries, "discriminator": {"propertyName": "kind"}},
    }
    for key, entry in (("datasets", DatasetEntry), ("models", ModelEntry)):
        schema["properties"][key]["additionalProperties"] = {"$ref": f"#/$defs/{entry.__name__}"}
    return schema
