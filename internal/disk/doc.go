// Package disk holds what every writer of files needs from the file system: syncing a
// directory, checking and reserving free space, and locking a file.
package disk
