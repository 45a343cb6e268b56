# A language model learns climate documents from PDFs, on as little memory as can be: the memory ladder.


rule climate:
    """All results of the experiment."""
    input:
        language_model_results("climate"),
