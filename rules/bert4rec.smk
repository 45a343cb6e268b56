# BERT4Rec from small to large, beside SASRec, with adapters, and what speed and memory each mode costs.


rule bert4rec:
    """All results of the experiment."""
    input:
        recommender_results("bert4rec"),
