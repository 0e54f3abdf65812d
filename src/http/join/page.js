"use strict";

// The invite stands behind the # of the address, and behind an @ the tenant: browsers send neither.
const [invite, tenant] = decodeURIComponent(location.hash.slice(1)).split("@");
const at = (id) => document.getElementById(id);

if (!invite) {
  at("go").disabled = true;
  at("trouble").textContent = "This address has no invite in it. Use the whole link that you were given.";
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("trouble").textContent = "";
  at("go").disabled = true;
  const asked = { name: at("name").value.trim(), password: at("password").value, invite, device: "browser" };
  if (tenant) asked.tenant = tenant;
  try {
    const answer = await fetch("/v1/accounts", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(asked),
    });
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.detail || said.code || "That did not work.");
    history.replaceState(null, "", location.pathname);
    at("who").textContent = said.user;
    at("try").textContent =
      `curl -H 'Authorization: Bearer ${said.token}' \\\n  ${location.origin}/v1/me`;
    at("form").hidden = true;
    at("done").hidden = false;
  } catch (trouble) {
    at("trouble").textContent = trouble.message;
    at("go").disabled = false;
  }
});
