# Snakemake runs this in the new environment: one that is broken stops a study before its first job.
# unsloth itself can be imported on a machine with a GPU alone, which this one need not be.
python -c "import bitsandbytes, datasets, peft, torch, transformers, trl"
