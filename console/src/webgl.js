// The renderer that is loaded only when it is asked for: it is as large as the rest of this page.

export { WebglAddon } from "@xterm/addon-webgl";
