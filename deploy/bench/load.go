package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// result is what one round of load on one contender came to.
type result struct {
	perSecond float64
	p99       time.Duration
	cpu       float64 // seconds per 10,000 requests
}

// load sends request n times over keep-alive connections, each of which waits
// for one response before it sends the next request, and returns requests per
// second and the 99th percentile of their times. A response with another length
// than size is an error, unless size is 0.
func load(ctx context.Context, o options, address, request string, size, n int) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, o.longest)
	defer cancel()
	var (
		wg     sync.WaitGroup
		left   atomic.Int64
		mu     sync.Mutex
		times  []time.Duration
		failed error
	)
	left.Store(int64(n))
	begun := time.Now()
	for range o.connections {
		wg.Go(func() {
			own, err := loadOne(ctx, address, []byte(request), size, &left)
			mu.Lock()
			defer mu.Unlock()
			times = append(times, own...)
			failed = errors.Join(failed, err)
		})
	}
	wg.Wait()
	if failed != nil || len(times) == 0 {
		return result{}, fmt.Errorf("after %d requests: %w", len(times), failed)
	}
	took := time.Since(begun)
	slices.Sort(times)
	return result{perSecond: float64(len(times)) / took.Seconds(), p99: times[len(times)*99/100]}, nil
}

func loadOne(ctx context.Context, address string, request []byte, size int, left *atomic.Int64) ([]time.Duration, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline.Add(10 * time.Second))
	var times []time.Duration
	in := bufio.NewReaderSize(c, 256<<10)
	for ctx.Err() == nil && left.Add(-1) >= 0 {
		begun := time.Now()
		if _, err := c.Write(request); err != nil {
			return times, err
		}
		if err := readResponse(in, size); err != nil {
			return times, err
		}
		times = append(times, time.Since(begun))
	}
	return times, nil
}

// readResponse reads a response with a length. Anything but 200 and 303 is an
// error: a comparison of error pages is none.
func readResponse(in *bufio.Reader, size int) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")) && !bytes.HasPrefix(line, []byte("HTTP/1.1 303 ")) {
			return fmt.Errorf("answered %q", line)
		}
		if len(line) == 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return err
			}
		}
	}
	if length < 0 || size > 0 && length != size {
		return fmt.Errorf("answered with a length of %d, not %d", length, size)
	}
	_, err := in.Discard(length)
	return err
}
