"""The course's own base model: the generated corpus, its tokenizer, the pretraining recipe and the cases."""
