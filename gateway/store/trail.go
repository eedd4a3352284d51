package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// The streams of the audit trail, of all gateways that share this Redis: the
// latest lines, for who wants to watch, and the latest heads, which tell whether
// a file was cut off or written anew.
const (
	streamTrail = "jumpgate:{audit}:lines"
	streamHeads = "jumpgate:{audit}:heads"
	maxTrail    = 10_000  // entries of each, about
	maxEntry    = 4 << 10 // bytes of a line; of a longer one, only the hash is kept
)

// TrailEntry is a line of the audit trail.
type TrailEntry struct {
	ID     string // in its stream; set by Trail
	File   string
	Line   []byte // empty if it was too long
	Hash   string // SHA-256 of the line, hexadecimal
	Signed bool   // it is a checkpoint: the hash is kept among the heads too
}

// AppendTrail adds lines to the streams. One round trip for 100 lines.
func (r *Redis) AppendTrail(ctx context.Context, entries []TrailEntry) error {
	for some := range slices.Chunk(entries, 100) {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, e := range some {
				values := []any{"file", e.File, "hash", e.Hash}
				if e.Signed {
					p.XAdd(ctx, &redis.XAddArgs{Stream: streamHeads, MaxLen: maxTrail, Approx: true, Values: values})
				}
				if len(e.Line) <= maxEntry {
					values = append(values, "line", e.Line)
				}
				p.XAdd(ctx, &redis.XAddArgs{Stream: streamTrail, MaxLen: maxTrail, Approx: true, Values: values})
			}
			return nil
		})
		if err != nil {
			return fail("append to the trail", err)
		}
	}
	return nil
}

// Trail returns the last n lines of the stream, the newest last. One round trip.
func (r *Redis) Trail(ctx context.Context, n int) ([]TrailEntry, error) {
	messages, err := r.client.XRevRangeN(ctx, streamTrail, "+", "-", int64(n)).Result()
	if err != nil {
		return nil, fail("read the trail", err)
	}
	slices.Reverse(messages)
	return trailEntries(messages), nil
}

// TrailAfter waits for lines after the one with an id, for at most a while. An
// empty id means the beginning of the stream. One round trip.
func (r *Redis) TrailAfter(ctx context.Context, id string, wait time.Duration) ([]TrailEntry, error) {
	if id == "" {
		id = "0"
	}
	streams, err := r.client.XRead(ctx, &redis.XReadArgs{Streams: []string{streamTrail, id}, Count: 1000, Block: wait}).Result()
	if errors.Is(err, redis.Nil) || err == nil && len(streams) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fail("read the trail", err)
	}
	return trailEntries(streams[0].Messages), nil
}

// TrailHeads returns the last n heads, the newest last. One round trip.
func (r *Redis) TrailHeads(ctx context.Context, n int) ([]TrailEntry, error) {
	messages, err := r.client.XRevRangeN(ctx, streamHeads, "+", "-", int64(n)).Result()
	if err != nil {
		return nil, fail("read the heads of the trail", err)
	}
	slices.Reverse(messages)
	return trailEntries(messages), nil
}

func trailEntries(messages []redis.XMessage) []TrailEntry {
	entries := make([]TrailEntry, len(messages))
	for i, m := range messages {
		text := func(name string) string {
			s, _ := m.Values[name].(string)
			return s
		}
		entries[i] = TrailEntry{ID: m.ID, File: text("file"), Line: []byte(text("line")), Hash: text("hash")}
	}
	return entries
}
