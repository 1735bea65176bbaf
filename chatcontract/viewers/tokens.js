// One tab stop for a whole strip, arrow keys inside it. Without scripts the tokens are tab stops themselves.
// JupyterLab leaves the keys to elements that carry data-lm-suppress-shortcuts.
// After an arrow key the details of the focused token are shown, until the pointer moves again (class "q").
(() => {
  for (const strip of document.querySelectorAll(".ccv .k > .s:not([data-on])")) {
    strip.dataset.on = 1;
    const tokens = [...strip.children].filter((child) => child.title);
    let at = 0;
    tokens.forEach((token, index) => { token.tabIndex = index ? -1 : 0; });
    strip.addEventListener("focusin", (event) => {
      const index = tokens.indexOf(event.target);
      if (index < 0) return;
      event.target.dataset.lmSuppressShortcuts = "true";
      tokens[at].tabIndex = -1;
      at = index;
      tokens[at].tabIndex = 0;
    });
    strip.addEventListener("keydown", (event) => {
      const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
      if (!tokens[next]) return;
      event.preventDefault();
      strip.classList.add("q");
      tokens[next].focus();
    });
    strip.addEventListener("pointermove", () => strip.classList.remove("q"));
  }
})();
