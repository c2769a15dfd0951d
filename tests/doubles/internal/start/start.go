// Package start begins a double: it listens where the command line says and prints the addresses.
package start

import (
	"flag"
	"fmt"
	"log"
	"net"
	"strings"
)

// Listen parses the command line, on which each name is a flag with an address, and listens on all of them. Other flags are
// declared before.
func Listen(names ...string) []net.Listener {
	addresses := make([]*string, len(names))
	for index, name := range names {
		addresses[index] = flag.String(name, "127.0.0.1:0", "address to listen on")
	}
	flag.Parse()
	var listeners []net.Listener
	var lines strings.Builder
	for _, address := range addresses {
		listener, err := net.Listen("tcp", *address)
		if err != nil {
			log.Fatal(err)
		}
		listeners = append(listeners, listener)
		fmt.Fprintln(&lines, listener.Addr())
	}
	// In one piece: who reads the first line only may close the pipe.
	fmt.Print(lines.String())
	return listeners
}
