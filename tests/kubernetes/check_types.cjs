// check_types.cjs MODULES < OBJECTS   checks Kubernetes objects (a JSON list) offline: each becomes a
// TypeScript literal of its kind, and the compiler finds wrong types, and names that nobody knows.
// MODULES is the folder that third_party/kubernetes_types.sh fills.
'use strict';
const fs = require('fs');
const path = require('path');

const modules = path.resolve(process.argv[2]);
const ts = require(path.join(modules, 'node_modules', 'typescript'));
const file = path.join(modules, 'manifests.check.ts');
const objects = JSON.parse(fs.readFileSync(0, 'utf8'));

function folderOf(apiVersion) { // networking.k8s.io/v1 -> networking/v1; v1 -> core/v1
  const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['core', apiVersion];
  return `${group.replace(/\..*$/, '')}/${version}`;
}

const starts = [];
let source = '';
objects.forEach((object, i) => {
  starts.push(source.length);
  source += `import type { ${object.kind} as Kind${i} } from 'kubernetes-types/${folderOf(object.apiVersion)}';\n` +
    `export const object${i}: Kind${i} = ${JSON.stringify(object, null, 1)};\n`;
});

const options = {
  noEmit: true, strict: true, skipLibCheck: true, types: [],
  moduleResolution: ts.ModuleResolutionKind.Node10,
};
const host = ts.createCompilerHost(options);
const { getSourceFile, fileExists } = host;
host.getSourceFile = (name, ...rest) => name === file
  ? ts.createSourceFile(name, source, ts.ScriptTarget.ES2020) : getSourceFile(name, ...rest);
host.fileExists = (name) => name === file || fileExists(name);
const faults = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host));
for (const fault of faults) {
  const object = objects[starts.filter((start) => start <= (fault.start ?? 0)).length - 1];
  console.log(`${object?.kind} ${object?.metadata?.name}: ` +
    ts.flattenDiagnosticMessageText(fault.messageText, '\n  '));
}
console.log(`${objects.length} objects, ${faults.length} faults`);
process.exit(faults.length ? 1 : 0);
