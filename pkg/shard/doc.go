// Package shard divides a job into shares that run side by side, on one machine or on the nodes of a
// cluster, and meet in a directory that all of them see.
//
// The directory of a job holds job.json, which describes the job and says how many shards it has, and
// for each finished shard a directory such as shard-0002-of-0004, which appears when it is complete.
// The state of a shard that runs, or was interrupted, is beside it, in .shard-0002-of-0004.afmq; the
// same command continues it. Shards need no other means to communicate, and a scheduler may start them
// in any order, unless the job itself makes them wait for one another.
package shard
