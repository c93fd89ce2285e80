// Bundles the page: its script and style, and the scripts of the views that only some reports carry.
//
//     node templates/gallery/bundle.mjs FOLDER
//
// A module of `src/apart` exports one view. Its script is a function that the page calls with what
// the two share, so nothing is bundled twice: no module can import another from file://.
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const SOURCE = join(dirname(fileURLToPath(import.meta.url)), "src");

/** How esbuild is called; the browsers are those with light-dark(), which the style needs. */
const OPTIONS = {
  bundle: true,
  charset: "utf8",
  logLevel: "warning",
  metafile: true,
  minify: true,
  target: ["chrome123", "firefox120", "safari17.5"],
  write: false,
};

const IMPORTED = /^import \{([^}]*)\} from "([^"]*)";$/gm;

/** A plugin that takes some modules from elsewhere. */
const instead = (isTaken, found) => ({
  name: "instead",
  setup(esbuild) {
    esbuild.onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
      const module = `${resolve(resolveDir, path)}.ts`;
      return isTaken(module) ? { path: module, ...found } : undefined;
    });
  },
});

const view = (name, plugins, more = {}) =>
  build({
    ...OPTIONS,
    entryPoints: [join(SOURCE, "apart", `${name}.ts`)],
    format: "esm",
    plugins,
    ...more,
  });

/** The names that a view imports from modules of the page, by module. */
async function importedBy(name, isOfPage) {
  const external = instead(isOfPage, { external: true });
  const { outputFiles } = await view(name, [external], { minify: false });
  return [...outputFiles[0].text.matchAll(IMPORTED)].flatMap(([, names, module]) =>
    names.split(",").map((one) => [module, one.trim().split(" as ")[0]]),
  );
}

/** A plugin that makes the lines of some modules. */
const made = (filter, namespace, code) => ({
  name: "made",
  setup(esbuild) {
    esbuild.onLoad({ filter, namespace }, ({ path }) => ({ contents: code(path).join("") }));
  },
});

const page = (plugins) => build({ ...OPTIONS, entryPoints: [join(SOURCE, "page.ts")], plugins });

/** What is shared, each name with a short one: those of data in the page's script are long. */
const shortened = (imported) =>
  [...new Set(imported.flat().map(String))]
    .sort()
    .map((one, i) => [...one.split(","), `_${i.toString(36)}`]);

/** The page's script and those of the views, by name. */
async function scripts() {
  const names = (await readdir(join(SOURCE, "apart"))).map((file) => file.replace(/\.ts$/, ""));
  const { metafile } = await page([]);
  const modules = new Set(Object.keys(metafile.inputs).map((path) => resolve(path)));
  const isOfPage = (module) => modules.has(module);
  const imported = await Promise.all(names.map((name) => importedBy(name, isOfPage)));
  const shared = shortened(imported);
  const exports = shared.map(
    ([module, name, short]) => `export {${name} as ${short}} from "${module}";`,
  );
  const { outputFiles } = await page([made(/shared\.ts$/, "file", () => exports)]);
  const views = names.map(async (name, i) => {
    const own = new Set(imported[i].map(String));
    const given = ([, name, short]) => `export const ${name}=$.${short};`;
    const code = (path) =>
      shared.filter(([module, name]) => module === path && own.has(`${module},${name}`)).map(given);
    const plugins = [instead(isOfPage, { namespace: "page" }), made(/./, "page", code)];
    const { outputFiles } = await view(name, plugins);
    const body = outputFiles[0].text.replace(/export\{(\w+) as default\};\s*$/, "return $1");
    return [`apart/${name}.js`, `camreport("view-${name}",$=>{"use strict";${body}});\n`];
  });
  return [["page.js", outputFiles[0].text], ...(await Promise.all(views))];
}

/** The style; its custom properties that no script mentions take short names. */
async function style(scripts) {
  const { outputFiles } = await build({ ...OPTIONS, entryPoints: [join(SOURCE, "page.css")] });
  const [{ text }] = outputFiles;
  const names = [...new Set(text.match(/--[a-z][\w-]*/g))];
  const own = names.filter((name) => !scripts.some(([, code]) => code.includes(name)));
  const short = new Map(own.map((name, i) => [name, `--${i.toString(36)}`]));
  return text.replace(/--[a-z][\w-]*/g, (name) => short.get(name) ?? name);
}

const folder = process.argv[2];
await mkdir(join(folder, "apart"), { recursive: true });
const code = await scripts();
for (const [name, text] of [...code, ["page.css", await style(code)]])
  await writeFile(join(folder, name), text);
