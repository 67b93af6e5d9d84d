// Package disk writes output files atomically, and has what every writer needs from the
// file system: syncing a directory, checking and reserving free space, locking a file.
//
// [WriteFile] replaces a file, [WriteNewFile] creates one that must not exist. Both write a
// temporary file in the target's directory, sync it and publish it in one step, so that the
// target is at every moment absent, the old file or the whole new one. Two writers of one
// target publish the whole data of one of them, and of two that create it one fails.
//
// # Temporary files
//
// The temporary file of DIR/NAME is DIR/.NAME.afmq-XXXXXXXXXXXXXXXX, with 16 random
// hexadecimal digits. It is created with O_EXCL and is locked (flock) while its writer is at
// work. A killed writer leaves it unlocked, and the next writer of the same target removes
// it: a regular file of this user with a name of that form, whose lock is free. On a file
// system without locks it stays until somebody removes it.
//
// A file that is written over hours and continued after a crash has a fixed name instead,
// DIR/.NAME.afmq-partial ([StagedPath], [CreateStaged]). Its lock excludes a second writer.
//
// No function follows a symbolic link as the last element of a path that it writes.
package disk

// Step is called wherever a crash leaves another state on disk. Tests replace it to kill the
// process there.
var Step = func(point string) {}
