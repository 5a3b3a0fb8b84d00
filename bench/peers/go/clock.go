package main

import (
	"log"

	"golang.org/x/sys/unix"
)

func monotonic() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		log.Fatal(err)
	}
	return now.Sec*1_000_000 + now.Nsec/1000
}
