// The reference follows the system's light or dark.
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

// The description is the server's own, so that "Try it out" asks the server that answers here.
SwaggerUIBundle({
  dom_id: "#api",
  url: "../../openapi.json",
  docExpansion: "none",
  filter: true,
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
