"""People's ratings of two models' answers: blind sheets, filled sheets, agreement."""
