() => {
  const repair = () => {
    // Gradio's comparing slider gives its two pictures no words,
    document.querySelectorAll("#compare img").forEach((image, i) => {
      const words = i ? "The edit" : "The photo as it was loaded";
      if (image.alt !== words) image.alt = words;
    });
    // and its radio buttons are no group, in which arrow keys would move.
    for (const group of ["attribute", "task"]) {
      document.querySelectorAll(`#${group} input`).forEach((input) => {
        if (input.name !== group) input.name = group;
      });
    }
  };
  new MutationObserver(repair).observe(document.body, { childList: true, subtree: true });
  repair();

  document.documentElement.dataset.ready = "";
}
