// Asks for the token, and tries it before it is kept.

import { h } from "./dom.js";
import { request, token } from "./api.js";

/** Resolves with a token that the server takes. `hadOne`: the one there was is no longer taken. */
export function signIn(hadOne) {
  return new Promise((done) => {
    const said = h("p", { class: "problem", role: "alert" });
    const field = h("input", {
      type: "password",
      id: "token",
      name: "token",
      autocomplete: "current-password",
      required: true,
      spellcheck: false,
      "aria-describedby": "token-help",
    });
    const submit = h("button", { type: "submit", class: "primary" }, "Sign in");
    const form = h(
      "form",
      {
        class: "signin",
        on: {
          async submit(event) {
            event.preventDefault();
            submit.disabled = true;
            said.textContent = "";
            const value = field.value.trim();
            try {
              token.set(value);
              await request("GET", "health");
              box.remove();
              done(value);
            } catch (error) {
              token.forget();
              said.textContent = error.status === 401 ? "The server does not take this token." : error.message;
              field.select();
            }
            submit.disabled = false;
          },
        },
      },
      h("h1", null, "Sign in"),
      h("label", { htmlFor: "token" }, "Token"),
      field,
      h("p", { id: "token-help", class: "help" }, "The one that the server was started with. It stays in this tab, and goes when the tab is closed."),
      said,
      submit,
    );
    if (hadOne) said.textContent = "The server does not take the token of this tab any more.";
    const box = h("div", { class: "cover", role: "dialog", "aria-modal": "true", "aria-label": "Sign in" }, form);
    token.forget();
    document.body.append(box);
    field.focus();
  });
}
