package main

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"jumpgate/gateway/audit"
)

type auditQueryCommand struct {
	trailFlags  `embed:""`
	filterFlags `embed:""`
	Format      string `enum:"table,jsonl,csv" default:"table" placeholder:"table|jsonl|csv" help:"table, jsonl (the lines as they are written) or csv."`
}

// Help explains more than fits a line.
func (auditQueryCommand) Help() string {
	return "Reads the files of all gateways that share the directory, in the order of time. What is read is not verified: jumpgate audit verify does that."
}

// Run prints the events that are wanted, one by one.
func (c auditQueryCommand) Run(t *terminal) error {
	out := bufio.NewWriter(t.stdout)
	write, flush := eventWriter(out, c.Format)
	if err := readTrail(t, c.trailFlags, c.filterFlags, write); err != nil {
		out.Flush()
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	return out.Flush()
}

// eventWriter returns what writes events in a format, and what is to be called
// after the last.
func eventWriter(out io.Writer, format string) (write func(audit.Event, []byte) error, flush func() error) {
	done := func() error { return nil }
	switch format {
	case "jsonl":
		return func(_ audit.Event, line []byte) error {
			_, err := fmt.Fprintf(out, "%s\n", line) // which is ASCII, with everything else escaped
			return err
		}, done
	case "csv":
		w := csv.NewWriter(out)
		first := true
		return func(e audit.Event, _ []byte) error {
			names, values := fields(e)
			if first {
				first = false
				if err := w.Write(names); err != nil {
					return err
				}
			}
			return w.Write(values)
		}, func() error { w.Flush(); return w.Error() }
	}
	return func(e audit.Event, _ []byte) error {
		_, err := fmt.Fprintln(out, eventText(e))
		return err
	}, done
}

// eventText is an event as a line that people read.
func eventText(e audit.Event) string {
	line := fmt.Sprintf("%s  %-10s  %-6s  %-16s  %-12s  %s", e.Time.UTC().Format("2006-01-02 15:04:05"), visibleText(string(e.Kind)),
		dash(e.Decision), dash(e.Rule), dash(e.User), dash(e.Peer))
	for _, f := range [][2]string{
		{"step", e.Step}, {"outcome", e.Outcome}, {"target", e.Target}, {"url", e.URL}, {"client", e.Client}, {"request", e.Request},
		{"origin", e.Origin}, {"signature", e.Signature}, {"link", e.Link}, {"detail", e.Detail}, {"file", e.File},
	} {
		if f[1] != "" {
			line += "  " + f[0] + "=" + strconv.QuoteToGraphic(f[1])
		}
	}
	if e.Count > 0 {
		line += "  count=" + strconv.FormatUint(e.Count, 10)
	}
	return line
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return visibleText(s)
}

// formula finds what begins one. Where a comma is part of numbers, table programs
// begin a cell at each semicolon.
var formula = regexp.MustCompile(`(^|;\s*)([=+\-@])`)

// cell returns s for a table program.
func cell(s string) string { return formula.ReplaceAllString(visibleText(s), "$1'$2") }

// fields returns names and values of an event for a table program, which must
// not take any of them for a formula.
func fields(e audit.Event) (names, values []string) {
	for _, f := range [][2]string{
		{"time", e.Time.UTC().Format(time.RFC3339Nano)}, {"seq", strconv.FormatUint(e.Seq, 10)}, {"kind", string(e.Kind)}, {"site", e.Site},
		{"request", e.Request}, {"client", e.Client}, {"step", e.Step}, {"user", e.User}, {"peer", e.Peer}, {"target", e.Target},
		{"decision", e.Decision}, {"rule", e.Rule}, {"outcome", e.Outcome}, {"url", e.URL}, {"issuer", e.Issuer},
		{"latency", strconv.FormatInt(e.Latency, 10)}, {"token", e.Token}, {"origin", e.Origin}, {"signature", e.Signature}, {"link", e.Link}, {"detail", e.Detail}, {"file", e.File}, {"count", strconv.FormatUint(e.Count, 10)},
	} {
		names, values = append(names, f[0]), append(values, cell(f[1]))
	}
	return names, values
}
