# A language model learns articles of Wikipedia: perplexity, token accuracy, and answers side by side.


rule wikitext:
    """All results of the experiment."""
    input:
        language_model_results("wikitext"),
