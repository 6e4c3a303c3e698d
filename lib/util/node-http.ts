/**
 * node:http. An `import` would load all that Node.js 22 and newer have there, such as a client for WebSockets: that
 * takes longer than to load this plugin.
 */
export const http = process.getBuiltinModule('node:http')
