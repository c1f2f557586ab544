/** Bundles the page into samjax/serve/page/, with the licences of all that is bundled. */

import { createHash } from "node:crypto";
import { build } from "esbuild";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

const OUT = process.argv[2] ?? "../samjax/serve/page";

const RULE = "=".repeat(80);
const CODECS = ["blosc", "lz4", "zstd"].map((name) => [`numcodecs/${name}`, "./no-codec.mjs"]);

const { metafile } = await build({
  entryPoints: ["src/main.ts"],
  outfile: join(OUT, "app.js"),
  bundle: true,
  alias: Object.fromEntries(CODECS),
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none", // the licences are in licences.txt
  metafile: true,
  logLevel: "info",
});

for (const name of await readdir("static")) {
  await cp(join("static", name), join(OUT, name));
}
await writeFile(join(OUT, "licences.txt"), await licences(Object.keys(metafile.inputs)));
await writeFile(join(OUT, "sources.sha256"), await hashes());

/** The licence texts of the packages that these files belong to. */
async function licences(inputs) {
  const packages = new Set(inputs.map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
  const texts = await Promise.all([...packages].sort().map(licence));
  const apache = await readFile("../LICENSE", "utf8");
  const font = `${RULE}\nGlyphs of Roboto Regular, Google (Apache-2.0), drawn by NiiVue\n\n${apache}`;
  return `app.js contains these packages.\n\n${[...texts, font].join("\n")}`;
}

async function licence(name) {
  const folder = join("node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
  const text = await readFile(file ? join(folder, file) : join("licences", `${name.replace("/", "-")}.txt`), "utf8");
  return `${RULE}\n${name} ${version} (${license})\n\n${text.trim()}\n`;
}

/** The hashes of all sources, by which a test without Node sees that the page was built from them. */
async function hashes() {
  const inside = await Promise.all(
    ["licences", "src", "static"].map(async (folder) => (await readdir(folder)).map((name) => `${folder}/${name}`)),
  );
  const paths = [...inside.flat(), "build.mjs", "no-codec.mjs", "package-lock.json", "tsconfig.json"].sort();
  const lines = paths.map(async (path) => {
    const hash = createHash("sha256").update(await readFile(path));
    return `${hash.digest("hex")}  ${path}\n`;
  });
  return (await Promise.all(lines)).join("");
}
