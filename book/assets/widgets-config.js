// Loaded right after require.js: every module that a widget asks for lies in the folder of vendored scripts beside this file.
(() => {
  const folder = document.currentScript.src.replace(/[^/]*$/, "vendor/");
  requirejs.config({
    paths: {
      anywidget: `${folder}anywidget`,
      // Defined within embed-amd.js; the addresses say where their fonts are.
      ...Object.fromEntries(
        ["base", "base7", "controls", "controls7", "html-manager", "output"].map((name) => [`@jupyter-widgets/${name}`, folder + name]),
      ),
      "@jupyter-widgets/html-manager/dist": folder.slice(0, -1),
    },
  });
  // ipywidgets labels are typeset through MathJax 2's queue; the page has MathJax 3.
  const hub = {
    Queue(job) {
      const { startup } = window.MathJax;
      if (startup && startup.promise) startup.promise.then(() => window.MathJax.typesetPromise([job[2]]));
    },
  };
  const mathjax = (window.MathJax = window.MathJax || {});
  mathjax.Hub = hub;
  mathjax.startup = {
    ...mathjax.startup,
    ready() {
      window.MathJax.Hub = hub;
      window.MathJax.startup.defaultReady();
    },
  };
})();
