import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

/** The server serves what is built at `/`; while developing, Vite passes the API on to it. */
export default defineConfig({
  base: '/console/',
  plugins: [react()],
  build: {
    outDir: '../server/src/resonantgenesis_server/console',
    emptyOutDir: true,
    // A data: URL in a style would need a policy of its own.
    assetsInlineLimit: 0,
  },
  server: { proxy: { '/v1': { target: 'http://127.0.0.1:8080', ws: true } } },
});
