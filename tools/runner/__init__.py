"""The research runner, `cjstream run`: texts and options in, one judged batch, its artefact and its report out."""
