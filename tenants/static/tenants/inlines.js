// Unfold renumbers the rows behind a removed one by replacing text in their HTML, which holds what the server sent,
// not what was typed since. So what was typed is written into the HTML first. Passwords stay where they are.
"use strict";

document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest(".delete-template");
    if (!button) {
        return;
    }
    for (const field of button.closest(".formset").querySelectorAll("input, select, textarea")) {
        if (field.type === "checkbox" || field.type === "radio") {
            field.toggleAttribute("checked", field.checked);
        } else if (field.tagName === "SELECT") {
            for (const option of field.options) {
                option.toggleAttribute("selected", option.selected);
            }
        } else if (field.tagName === "TEXTAREA") {
            field.textContent = field.value;
        } else if (field.type !== "password") {
            field.setAttribute("value", field.value);
        }
    }
}, true);

// A mistake in a group of fields that is folded up would not be seen.
document.addEventListener("DOMContentLoaded", () => {
    for (const field of document.querySelectorAll("details .errors")) {
        field.closest("details").open = true;
    }
});
