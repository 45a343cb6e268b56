# The conda environments of all rules, as one image. Made by `make container` from envs/, through Snakemake
# (`snakemake --configfile config/full.yaml --containerize`); do not edit. The workflow is not in it: it is mounted.
# With the image built and pushed, every job runs in it by `--sdm conda apptainer --apptainer-args --nv` and the line
#     containerized: "docker://<registry>/<image>"
# at the top of the Snakefile.
FROM condaforge/miniforge3:latest
LABEL io.github.snakemake.containerized="true"
LABEL io.github.snakemake.conda_env_hash="af3e2cbdfb3b53418a5f9f7fdcf4f218986838b4f79d2315a6559aff862e96a0"
# Conda environment:
#   source: envs/base.yaml
#   prefix: /conda-envs/1611816a4818e6ee1e671ad3cc21f661
#   # Downloads, preparation, configuration: no torch.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pip
#     - pip:
#         - numpy==2.4.6
#         - pandas==3.1.1
#         - pyarrow==26.0.1
#         - pydantic==2.14.3
#         - PyYAML==6.0.3
#         - requests==2.34.2
#         - huggingface_hub==2.4.0
#         - scipy==1.17.1
RUN mkdir -p /conda-envs/1611816a4818e6ee1e671ad3cc21f661
COPY envs/base.yaml /conda-envs/1611816a4818e6ee1e671ad3cc21f661/environment.yaml
# Conda environment:
#   source: envs/documents.yaml
#   prefix: /conda-envs/7ba5061a5dff87d42880b494d600e366
#   # Articles and PDFs to text: no torch.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pip
#     - pip:
#         - pypdf==7.1.0
#         - PyPDF2==3.0.1
#         - cryptography==50.0.2
#         - mwparserfromhell==0.7.2
#         - datasketch==2.0.0
#         - numpy==2.4.6
#         - pandas==3.1.1
#         - pyarrow==26.0.1
#         - pydantic==2.14.3
#         - PyYAML==6.0.3
#         - scipy==1.17.1
RUN mkdir -p /conda-envs/7ba5061a5dff87d42880b494d600e366
COPY envs/documents.yaml /conda-envs/7ba5061a5dff87d42880b494d600e366/environment.yaml
# Conda environment:
#   source: envs/llm.yaml
#   prefix: /conda-envs/1c87aff47109d111c92c395924e055bf
#   # Language models with transformers, on CPUs and GPUs. CUDA 13.0 asks for NVIDIA's driver 580 or newer.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pip
#     - c-compiler      # Triton compiles a kernel's launcher at its first use, torch.compile on a CPU all that it makes
#     - cxx-compiler
#     - pip:
#         - torch==2.13.0
#         - cuda-toolkit==13.0.3.0
#         - nvidia-ml-py==13.615.71
#         - transformers==5.23.0
#         - peft==0.21.2
#         - trl==1.16.0
#         - bitsandbytes==0.50.2
#         - datasets==5.2.0
#         - accelerate==1.15.0
#         - gguf==0.19.0
#         - safetensors==0.8.0
#         - numpy==2.4.6
#         - pandas==3.1.1
#         - pyarrow==26.0.1
#         - pydantic==2.14.3
#         - PyYAML==6.0.3
#         - scipy==1.17.1
RUN mkdir -p /conda-envs/1c87aff47109d111c92c395924e055bf
COPY envs/llm.yaml /conda-envs/1c87aff47109d111c92c395924e055bf/environment.yaml
# Conda environment:
#   source: envs/recsys.yaml
#   prefix: /conda-envs/6c799cbf130145b2374c1be75d4e34b3
#   # Recommenders, on CPUs and GPUs. CUDA 13.0 asks for NVIDIA's driver 580 or newer.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pip
#     - c-compiler      # Triton compiles a kernel's launcher at its first use, torch.compile on a CPU all that it makes
#     - cxx-compiler
#     - pip:
#         - torch==2.13.0
#         - cuda-toolkit==13.0.3.0
#         - nvidia-ml-py==13.615.71
#         - transformers==5.23.0
#         - peft==0.21.2
#         - accelerate==1.15.0
#         - safetensors==0.8.0
#         - numpy==2.4.6
#         - pandas==3.1.1
#         - pyarrow==26.0.1
#         - pydantic==2.14.3
#         - PyYAML==6.0.3
#         - optuna==5.0.0   # searches alone import it
#         - scipy==1.17.1
RUN mkdir -p /conda-envs/6c799cbf130145b2374c1be75d4e34b3
COPY envs/recsys.yaml /conda-envs/6c799cbf130145b2374c1be75d4e34b3/environment.yaml
# Conda environment:
#   source: envs/report.yaml
#   prefix: /conda-envs/9298e88ef467d88149530d5bde51a0b4
#   # Tables, figures and the report: no torch.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pip
#     - pip:
#         - numpy==2.4.6
#         - pandas==3.1.1
#         - pyarrow==26.0.1
#         - pydantic==2.14.3
#         - PyYAML==6.0.3
#         - scipy==1.17.1
#         - matplotlib==3.11.2
#         - seaborn==0.13.2
#         - Jinja2==3.1.6
#         - pypandoc_binary==1.17
RUN mkdir -p /conda-envs/9298e88ef467d88149530d5bde51a0b4
COPY envs/report.yaml /conda-envs/9298e88ef467d88149530d5bde51a0b4/environment.yaml
# Conda environment:
#   source: envs/unsloth.yaml
#   prefix: /conda-envs/f2c8433ace87928ec48c2eec917d8704
#   # unsloth holds transformers, trl and datasets back, and torch at another version: an environment of its own.
#   # CUDA 13.0 asks for NVIDIA's driver 580 or newer.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pip
#     - c-compiler      # Triton compiles a kernel's launcher at its first use, torch.compile on a CPU all that it makes
#     - cxx-compiler
#     - pip:
#         - unsloth==2026.10.7
#         - unsloth_zoo==2026.10.7
#         - xformers==0.0.35
#         - triton==3.8.0
#         - torch==2.14.1
#         - cuda-toolkit==13.0.3.0
#         - nvidia-ml-py==13.615.71
#         - transformers==5.17.0
#         - trl==1.15.0
#         - peft==0.21.2
#         - datasets==4.8.5
#         - bitsandbytes==0.50.2
#         - accelerate==1.15.0
#         - safetensors==0.8.0
#         - numpy==2.4.6
#         - pandas==3.1.1
#         - pyarrow==26.0.1
#         - pydantic==2.14.3
#         - PyYAML==6.0.3
#         - scipy==1.17.1
RUN mkdir -p /conda-envs/f2c8433ace87928ec48c2eec917d8704
COPY envs/unsloth.yaml /conda-envs/f2c8433ace87928ec48c2eec917d8704/environment.yaml

RUN conda env create --prefix /conda-envs/1611816a4818e6ee1e671ad3cc21f661 --file /conda-envs/1611816a4818e6ee1e671ad3cc21f661/environment.yaml && \
    conda env create --prefix /conda-envs/7ba5061a5dff87d42880b494d600e366 --file /conda-envs/7ba5061a5dff87d42880b494d600e366/environment.yaml && \
    conda env create --prefix /conda-envs/1c87aff47109d111c92c395924e055bf --file /conda-envs/1c87aff47109d111c92c395924e055bf/environment.yaml && \
    conda env create --prefix /conda-envs/6c799cbf130145b2374c1be75d4e34b3 --file /conda-envs/6c799cbf130145b2374c1be75d4e34b3/environment.yaml && \
    conda env create --prefix /conda-envs/9298e88ef467d88149530d5bde51a0b4 --file /conda-envs/9298e88ef467d88149530d5bde51a0b4/environment.yaml && \
    conda env create --prefix /conda-envs/f2c8433ace87928ec48c2eec917d8704 --file /conda-envs/f2c8433ace87928ec48c2eec917d8704/environment.yaml && \
    conda clean --all -y
