package store

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"jumpgate/gateway"
)

//go:embed peerlog.lua
var peerLogLua string

var scriptPeerLog = redis.NewScript(peerLogLua)

const (
	maxLogged = 10_000  // records kept of one peer: the last ones
	maxRecord = 2 << 10 // bytes of one
)

// LogRecord is something that a learner did at a peer, as the peer tells it
// (the columns of Moodle's table mnet_log). The texts are the peer's: whoever
// shows them must not trust them.
type LogRecord struct {
	Received time.Time `json:"received"` // set by AppendLog
	Time     int64     `json:"time"`     // Unix seconds, by the peer's clock
	Username string    `json:"username"`
	IP       string    `json:"ip,omitempty"`
	Course   string    `json:"course,omitempty"`
	Module   string    `json:"module,omitempty"`
	Action   string    `json:"action,omitempty"`
	URL      string    `json:"url,omitempty"`
	Info     string    `json:"info,omitempty"`
}

// AppendLog adds records to the log of peer, and drops the oldest where there
// are too many. Long texts are cut. One round trip.
func (s *Site) AppendLog(ctx context.Context, peer gateway.Wwwroot, records []LogRecord) error {
	if len(records) == 0 {
		return nil
	}
	args := []any{maxLogged, ReportLife.Milliseconds()}
	now := s.r.now().UTC()
	for _, r := range records[max(0, len(records)-maxLogged):] {
		r.Received = now
		line, err := r.encode()
		if err != nil {
			return fmt.Errorf("log of a peer: %w", err)
		}
		args = append(args, line)
	}
	return fail("keep log of a peer", scriptPeerLog.Run(ctx, s.r.client, []string{s.key(kindPeerLog, peer.String())}, args...).Err())
}

// Log returns the last n records of peer, the newest last. One round trip.
func (s *Site) Log(ctx context.Context, peer gateway.Wwwroot, n int) ([]LogRecord, error) {
	if n <= 0 {
		return nil, nil
	}
	lines, err := s.r.client.LRange(ctx, s.key(kindPeerLog, peer.String()), int64(-n), -1).Result()
	if err != nil {
		return nil, fail("read log of a peer", err)
	}
	records := make([]LogRecord, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal([]byte(line), &records[i]); err != nil {
			return nil, fmt.Errorf("read log of a peer: record: %w", err)
		}
	}
	return records, nil
}

// encode returns a record of at most maxRecord bytes. Its texts are cut to what
// Moodle's columns hold, and the address to what IPv6 needs; but further where
// they have characters of many bytes.
func (r LogRecord) encode() ([]byte, error) {
	r.Username = cut(r.Username, maxUsername)
	for most := 255; ; most /= 2 {
		r.IP = cut(r.IP, min(45, most))
		r.Course = cut(r.Course, min(40, most))
		r.Module = cut(r.Module, min(20, most))
		r.Action = cut(r.Action, min(40, most))
		r.URL = cut(r.URL, most)
		r.Info = cut(r.Info, most)
		if line, err := encode(r); err != nil || len(line) <= maxRecord || most == 0 {
			return line, err
		}
	}
}
