package proxy

import (
	"context"
	"net"
	"net/http"
	"time"
)

// readBuffer is how much of a response one system call may bring in. Most
// Moodle pages fit.
const readBuffer = 32 << 10

// maxIdle bounds the connections to the upstream that nobody uses.
const maxIdle = 1024

// idleTimeout is shorter than the 5 s after which an Apache closes: a POST must
// not meet a connection that is just being closed, for it is not repeated.
const idleTimeout = 4 * time.Second

// dialer returns what connects to the upstream. The upstream has to take a
// piece of a request within the time that it has for a response's header.
func dialer(o Options) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: orDefault(o.DialTimeout, DefaultDialTimeout)}
	limit := orDefault(o.ResponseHeaderTimeout, DefaultResponseHeaderTimeout)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &conn{Conn: c, limit: limit}, nil
	}
}

func newTransport(o Options) *http.Transport {
	t := &http.Transport{
		DialContext:            dialer(o),
		TLSHandshakeTimeout:    orDefault(o.DialTimeout, DefaultDialTimeout),
		ResponseHeaderTimeout:  orDefault(o.ResponseHeaderTimeout, DefaultResponseHeaderTimeout),
		ExpectContinueTimeout:  time.Second,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxResponseHeader,
		ReadBufferSize:         readBuffer,
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetHTTP1(true)
	return t
}
