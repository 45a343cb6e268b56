"""The claims ledger: what the original write-ups state, beside what is computed and measured here."""
