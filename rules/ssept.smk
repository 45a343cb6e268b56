# SSE-PT: users and items side by side in a Transformer, with stochastic shared embeddings.


rule ssept:
    """All results of the experiment."""
    input:
        recommender_results("ssept"),
