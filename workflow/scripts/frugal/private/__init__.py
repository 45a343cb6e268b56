"""Interfaces of libraries that are not public: all that Frugal uses of them, a module for each library.

Beside each stands why it is used and what happens when it changes. `tests/unit/test_private.py` tests each, and fails
on an upgrade that changes it. When a library offers a public interface, it replaces the function here.

One private method is overridden where its class is: `Recommender._init_weights` (`PreTrainedModel` of transformers
5.23.0), by which every model of that library draws its first weights; there is no other way. If it were no longer
called, all first weights would be others.
"""
