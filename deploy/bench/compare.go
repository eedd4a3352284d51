package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// compare loads the contenders in turn, each round beginning with another
// one, and prints medians; ratios are medians of those within a round, to the
// first contender.
func compare(ctx context.Context, o options, what string, size, n int, contenders []*contender, request func(*contender) string) error {
	for _, c := range contenders {
		c.results = nil
		if _, err := load(ctx, o, c.address, request(c), size, max(n/10, o.connections)); err != nil { // warm
			return fmt.Errorf("%s, %s: %w", what, c.name, err)
		}
	}
	for round := range o.rounds {
		for i := range contenders {
			c := contenders[(round+i)%len(contenders)]
			before := cpu(c.cmd.Process.Pid)
			r, err := load(ctx, o, c.address, request(c), size, n)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", what, c.name, err)
			}
			r.cpu = (cpu(c.cmd.Process.Pid) - before).Seconds() / float64(n) * 10000
			c.results = append(c.results, r)
		}
	}
	fmt.Printf("\n%s, %d requests a round\n", what, n)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\trequests/s\tratio\tp99\tratio\tCPU s/10,000\tratio\tRSS MB before\tafter\t")
	base := contenders[0]
	for _, c := range contenders {
		rate := func(r result) float64 { return r.perSecond }
		late := func(r result) float64 { return r.p99.Seconds() * 1000 }
		cost := func(r result) float64 { return r.cpu }
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f ms\t%.2f\t%.3f\t%.2f\t%.1f\t%.1f\t\n", c.name,
			middle(c, rate), ratio(c, base, rate), middle(c, late), ratio(c, base, late), middle(c, cost), ratio(c, base, cost),
			float64(c.before)/1e6, float64(resident(c.cmd.Process.Pid))/1e6)
	}
	return w.Flush()
}

func middle(c *contender, of func(result) float64) float64 {
	var values []float64
	for _, r := range c.results {
		values = append(values, of(r))
	}
	return median(values)
}

func ratio(c, base *contender, of func(result) float64) float64 {
	var values []float64
	for i, r := range c.results {
		values = append(values, of(r)/of(base.results[i]))
	}
	return median(values)
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// tree returns a process and its children, from /proc: nginx and HAProxy work
// in children.
func tree(pid int) []int {
	pids := []int{pid}
	children, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range children {
		list, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(list)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// stat returns field n of /proc/PID/stat, counted from 1 as in proc(5).
func stat(pid, n int) int64 {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(line), ") ") // the name may hold blanks
	fields := strings.Fields(rest)
	if n-3 >= len(fields) {
		return 0
	}
	value, _ := strconv.ParseInt(fields[n-3], 10, 64)
	return value
}

// cpu returns the time that a process and its children have worked, in ticks
// of 1/100 s.
func cpu(pid int) time.Duration {
	var ticks int64
	for _, p := range tree(pid) {
		ticks += stat(p, 14) + stat(p, 15)
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// resident returns the memory of a process and its children in bytes.
func resident(pid int) int64 {
	var pages int64
	for _, p := range tree(pid) {
		pages += stat(p, 24)
	}
	return pages * int64(os.Getpagesize())
}
