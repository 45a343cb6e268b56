# Snakemake runs this in the new environment: one that is broken stops a study before its first job.
python -c "import bitsandbytes, datasets, peft, torch, transformers, trl"
