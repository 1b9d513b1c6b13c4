"""A report as a browser reads it, and probabilities for what it shows."""

from html.parser import HTMLParser

import numpy as np

VOID = {"meta", "link", "wbr", "img"}


def predicting(predictions, confidences, n_classes=2):
    """Return probabilities (n, n_classes) whose largest are these confidences for these predictions."""
    confidences = np.broadcast_to(confidences, len(predictions)).astype(float)
    others = (1 - confidences) / max(1, n_classes - 1)
    probabilities = np.repeat(others[:, None], n_classes, axis=1)
    probabilities[np.arange(len(predictions)), predictions] = confidences
    return probabilities


class Report(HTMLParser):
    """What is in an HTML file; every element must be closed.

    `links` lead to ids in the file, `files` to other files, `popovers` to ids of what a button opens or closes;
    `addresses` are what the browser loads to show the file.
    """

    def __init__(self, text):
        super().__init__()
        self.text, self.source = "", text
        self.tags, self.ids, self.links, self.files, self.popovers, self.addresses = [], [], [], [], [], []
        self._open = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src"):
                others = self.files if tag == "a" else self.addresses
                (self.links if value.startswith("#") else others).append(value)
            if name == "popovertarget":
                self.popovers.append(value)
            assert not name.startswith("on")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, words):
        if self._open[-1:] != ["style"]:
            self.text += words

    @property
    def words(self):
        return " ".join(self.text.split())
