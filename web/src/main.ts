/** Starts the page. */

import { App } from "./app";
import { commandsOf } from "./commands";
import { element } from "./dom";
import { buildHelp } from "./help";
import { type Command, listenToKeys } from "./keys";
import { Panels } from "./panels";
import { publish } from "./testing";

async function start(): Promise<void> {
  const app = new App();
  const run = (command: Command) => {
    const reason = command.reason?.() ?? null;
    if (reason) {
      app.session.say(reason, "error");
    } else {
      command.run();
    }
  };
  const commands = new Map<string, Command>();
  const panels = new Panels(app, commands, run);
  let listening = false;
  app.onChange = () => {
    if (!listening && app.session.server) {
      listening = true; // the model's regions have keys too
      const all = commandsOf(app);
      all.forEach((command) => commands.set(command.id, command));
      buildHelp(all);
      listenToKeys(all, () => element<HTMLDialogElement>("help").open, run);
    }
    panels.update();
  };
  publish(app);
  element("viewer").focus();
  await app.start(decodeURIComponent(location.hash.slice(1)) || null);
}

void start().catch((error: unknown) => {
  const banner = element("banner");
  banner.hidden = false;
  banner.textContent = `The page cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
  console.error(error);
});
