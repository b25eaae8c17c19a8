// Reading by keys and on paper.
// What scrolls sideways by itself is reached by the Tab key while it does, and then scrolls by the arrow keys.
(() => {
  const SCROLLERS = ".bd-content :is(div.math, .pst-scrollable-table-container, .cell_output .text_html)";

  const mark = (node) => {
    const scrolls = node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1;
    if (scrolls === node.hasAttribute("data-scrolls")) return;
    if (scrolls) {
      const given = { "data-scrolls": "", tabindex: "0", role: "group", "aria-label": node.matches(".math") ? "Equation" : "Table" };
      for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
    } else {
      for (const name of ["data-scrolls", "tabindex", "role", "aria-label"]) node.removeAttribute(name);
    }
  };

  const watch = () => {
    const observer = new ResizeObserver((entries) => {
      for (const { target } of entries) {
        const box = target.closest(SCROLLERS); // null once MathJax has drawn the equation anew
        if (box) mark(box);
      }
    });
    for (const node of document.querySelectorAll(SCROLLERS)) for (const each of [node, ...node.children]) observer.observe(each);
  };

  // Paper is light. The theme's own choice comes back after printing.
  const root = document.documentElement;
  let before = null;
  const paper = (printing) => {
    if (printing && before === null) {
      before = root.dataset.theme;
      root.dataset.theme = "light";
    } else if (!printing && before !== null) {
      root.dataset.theme = before;
      before = null;
    }
  };
  window.addEventListener("beforeprint", () => paper(true));
  window.addEventListener("afterprint", () => paper(false));
  matchMedia("print").addEventListener("change", (event) => paper(event.matches));

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", watch);
  else watch();
})();
