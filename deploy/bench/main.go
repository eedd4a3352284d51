// Command bench compares the gateway with other reverse proxies on loopback.
// It starts them, a static upstream and a Redis, loads them in turn, and
// prints what each cost. Run it by run.sh.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type options struct {
	jumpgate    string
	proxyOnly   bool
	rounds      int
	connections int
	requests    int
	longest     time.Duration
	only        string
	dir         string // for configurations, state and logs
}

func main() {
	var err error
	if len(os.Args) > 3 && os.Args[1] == "server" {
		// The small servers that it compares with are this program again.
		err = server(os.Args[2], os.Args[3:])
	} else {
		err = run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.jumpgate, "jumpgate", "", "the gateway's `binary`; without it, package proxy alone is measured")
	flag.BoolVar(&o.proxyOnly, "proxy-only", false, "measure package proxy alone too")
	flag.IntVar(&o.rounds, "rounds", 5, "`rounds` over all contenders")
	flag.IntVar(&o.connections, "connections", 32, "keep-alive `connections` of the load")
	flag.IntVar(&o.requests, "requests", 20000, "`requests` of 2 KB in each round; others in proportion")
	flag.DurationVar(&o.longest, "longest", time.Minute, "end a round after this `time`")
	flag.StringVar(&o.only, "only", "2K,21K,10M,jumps", "what to measure")
	flag.Parse()

	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	fmt.Printf("%d CPUs, %s, %d connections, %d rounds\n", runtime.NumCPU(), runtime.Version(), o.connections, o.rounds)
	if err := passThrough(ctx, o); err != nil {
		return err
	}
	if strings.Contains(o.only, "jumps") && o.jumpgate != "" {
		return jumps(ctx, o)
	}
	return nil
}

// passThrough measures the proxies for each size of response.
func passThrough(ctx context.Context, o options) error {
	upstream, err := start(ctx, o, "upstream", func(address string) []string {
		return []string{os.Args[0], "server", "upstream", address}
	})
	if err != nil {
		return err
	}
	defer upstream.stop()
	contenders := proxies(ctx, o, upstream.address)
	defer stopAll(contenders)
	for _, size := range []struct {
		name, path string
		bytes      int
		share      int // of the requests
	}{{"2K", "/2k", 2 << 10, 1}, {"21K", "/21k", 21 << 10, 2}, {"10M", "/10m", 10 << 20, 200}} {
		if !strings.Contains(o.only, size.name) {
			continue
		}
		if err := compare(ctx, o, size.name, size.bytes, o.requests/size.share, contenders, func(c *contender) string {
			return "GET " + size.path + " HTTP/1.1\r\nHost: " + c.host() + browser + "\r\n\r\n"
		}); err != nil {
			return err
		}
	}
	return nil
}

// What a browser sends with a page of a Moodle.
const browser = "\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Referer: https://moodle.example/course/view.php?id=2\r\nUpgrade-Insecure-Requests: 1\r\n" +
	"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n" +
	"Cookie: MoodleSession=" + session + "; MOODLEID1_=%25E5%25DF"

const session = "benchbenchbenchbenchbench0"
