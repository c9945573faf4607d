// node build.mjs <name> <file>: bundles a snippet of docs/embed into one module that a page can load, or that node
// can run. Builds are those for development, so that each framework says what it does not like.

import { readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import * as esbuild from "esbuild";
import { compile as compileSvelte } from "svelte/compiler";
import * as vue from "vue/compiler-sfc";

const HERE = dirname(fileURLToPath(import.meta.url));
const EMBED = join(HERE, "../../../docs/embed");

/** What is built around each snippet. An app shows it in `#app`, and takes it away when `#leave` is clicked. */
const APPS = {
  react: `
    import { StrictMode } from "react";
    import { createRoot } from "react-dom/client";
    import { GenerateButton, Wallet } from "./react.jsx";
    const root = createRoot(document.getElementById("app"));
    root.render(<StrictMode><Wallet /><GenerateButton credits={40} /></StrictMode>);
    document.getElementById("leave").onclick = () => root.unmount();`,
  vue: `
    import { createApp } from "vue";
    import Wallet from "./Wallet.vue";
    const app = createApp(Wallet);
    app.mount("#app");
    document.getElementById("leave").onclick = () => app.unmount();`,
  svelte: `
    import { mount, unmount } from "svelte";
    import Wallet from "./Wallet.svelte";
    const wallet = mount(Wallet, { target: document.getElementById("app") });
    document.getElementById("leave").onclick = () => unmount(wallet);`,
  nextjs: `import "../../tests/browser/backends/next_site.mjs";`,
};

/** As @vitejs/plugin-vue does it with the option that the guide names. */
function compileVue(source, filename) {
  const compilerOptions = { isCustomElement: (tag) => tag.startsWith("chargly-") };
  const { descriptor, errors } = vue.parse(source, { filename, templateParseOptions: compilerOptions });
  if (errors.length) throw errors[0];
  return vue.compileScript(descriptor, { id: filename, inlineTemplate: true, templateOptions: { compilerOptions } }).content;
}

const components = {
  name: "components",
  setup(build) {
    build.onLoad({ filter: /\.(vue|svelte)$/, namespace: "file" }, async ({ path }) => {
      const source = await readFile(path, "utf8");
      if (path.endsWith(".vue")) return { contents: compileVue(source, basename(path)) };
      const { js, warnings } = compileSvelte(source, { generate: "client", dev: true, filename: basename(path) });
      return { contents: js.code, warnings: warnings.map(({ message }) => ({ text: message })) };
    });
  },
};

const [name, outfile] = process.argv.slice(2);
const { warnings } = await esbuild.build({
  stdin: { contents: APPS[name], loader: "jsx", resolveDir: EMBED },
  outfile,
  bundle: true,
  format: "esm",
  platform: name === "nextjs" ? "node" : "browser",
  jsx: "automatic",
  jsxDev: true,
  conditions: ["development"],
  define: {
    "process.env.NODE_ENV": '"development"',
    __VUE_OPTIONS_API__: "false",
    __VUE_PROD_DEVTOOLS__: "false",
    __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
  },
  alias: { "@/auth": join(HERE, "../backends/auth.mjs") },
  nodePaths: [join(HERE, "node_modules")],
  plugins: [components],
});
if (warnings.length) process.exit(1);
