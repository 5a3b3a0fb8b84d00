/** What `client.files` loads when it is used. */
export { download } from './download.js';
export { get, list, remove } from './lookups.js';
export { upload } from './upload.js';
