// Before the first paint, so that a page that was set dark never flashes.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("cuvee-theme"); } catch { /* no storage: as the system says */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
