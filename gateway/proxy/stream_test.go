package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEventsArriveOneByOne(t *testing.T) {
	for _, length := range []string{"", "Content-Length: 16\r\n"} {
		next := make(chan bool)
		up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"+length+"\r\n")
			for i := range 2 {
				<-next
				fmt.Fprintf(c, "data: %d\n", i)
			}
			<-next
		})
		c, r := dial(t, front(t, up, nil))
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
		res, err := http.ReadResponse(r, nil) // the header comes before any event
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(res.Body)
		for i := range 2 {
			next <- true
			line, err := lines.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
				t.Fatalf("%q, %v; want %q", line, err, want)
			}
		}
		close(next)
	}
}

func TestAHeaderDoesNotWaitForItsBody(t *testing.T) {
	release := make(chan bool)
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		<-release
		io.WriteString(c, "2\r\nok\r\n0\r\n\r\n")
	})
	c, r := dial(t, front(t, up, nil))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	close(release)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil {
		t.Errorf("%q, %v", body, err)
	}
}

func TestInformationalResponsesPass(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nSet-Cookie: jumpgate-s=x\r\n\r\n"+
				"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	p := newProxy(t, up, nil)
	address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Outer", "kept for the end")
		p.ServeHTTP(w, r)
	}), 0)
	var got []string
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		got = append(got, fmt.Sprint(code, h))
		return nil
	}}
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", "http://"+address, nil)
	res, err := new(http.Transport).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	want := []string{"103 map[Link:[</a.css>; rel=preload]]", "102 map[]"}
	if diff := cmp.Diff(want, got); diff != "" || res.Header.Get("X-Outer") == "" || res.Header.Get("Link") != "" {
		t.Errorf("final header %v; (-want +got):\n%s", res.Header, diff)
	}

	old, body := exchangeRaw(t, address, "GET / HTTP/1.0\r\nHost: m\r\n\r\n")
	if old.StatusCode != 200 || body != "ok" {
		t.Errorf("HTTP/1.0 got %d %q", old.StatusCode, body)
	}
}

func TestAFloodOfInformationalResponsesEnds(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
				return
			}
		}
	})
	c, r := dial(t, front(t, up, nil))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: m\r\n\r\n")
	for range maxInformational {
		if head, err := readHead(r); err != nil || !strings.Contains(head, " 103 ") {
			t.Fatal(head, err)
		}
	}
	if head, err := readHead(r); err != nil || !strings.Contains(head, " 502 ") {
		t.Error(head, err)
	}
}

func TestTrailersPassBothWays(t *testing.T) {
	for _, announce := range []bool{true, false} {
		up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			name := http.TrailerPrefix + "X-Sum"
			if announce {
				w.Header().Set("Trailer", "X-Sum")
				name = "X-Sum"
			}
			io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush() // or there is a length and no trailer
			w.Header().Set(name, fmt.Sprint(r.Trailer))
		})
		res, body := exchangeRaw(t, front(t, up, nil), "POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n"+
			"Trailer: X-Check, X-Jumpgate-User\r\n\r\n2\r\nab\r\n0\r\nX-Check: 7\r\nX-Jumpgate-User: admin\r\nX_Jumpgate_User: admin\r\n\r\n")
		if got := res.Trailer.Get("X-Sum"); body != "body" || got != "map[X-Check:[7]]" {
			t.Errorf("announced %v: body %q, the upstream saw %q", announce, body, got)
		}
	}
}

// pattern is an endless stream of bytes that is cheap to make.
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

func TestBigBodiesStreamInConstantMemory(t *testing.T) {
	size := int64(256 << 20)
	if testing.Short() {
		size = 32 << 20
	}
	var received atomic.Int64
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.CopyN(w, pattern{}, size)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		received.Store(n)
	})
	address := front(t, up, nil)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, most := heap(), uint64(0)
	watch := func(r io.Reader) io.Reader {
		n := 0
		return readerFunc(func(p []byte) (int, error) {
			if n++; n%256 == 0 {
				most = max(most, heap())
			}
			return r.Read(p)
		})
	}

	for _, length := range []int64{size, -1} {
		req, _ := http.NewRequest(http.MethodPost, "http://"+address, watch(io.LimitReader(pattern{}, size)))
		req.ContentLength = length
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if received.Load() != size || res.StatusCode != http.StatusOK {
			t.Errorf("status %d, %d of %d bytes arrived", res.StatusCode, received.Load(), size)
		}
	}
	res, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, watch(res.Body)); n != size || err != nil {
		t.Errorf("downloaded %d of %d bytes, %v", n, size, err)
	}
	if most > before+16<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, most)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// An upstream that refuses an upload must be able to say so before it has
// been sent, with and without 100-continue.
func TestAnEarlyAnswerDoesNotWaitForTheUpload(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
			_, _ = io.Copy(io.Discard, r)
		}
	})
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		res, body := exchangeRaw(t, front(t, up, nil), "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 1000\r\n"+expect+"\r\n")
		if res.StatusCode != http.StatusRequestEntityTooLarge || body != "no!" || !res.Close {
			t.Errorf("expect %q: %d %q, close %v", expect, res.StatusCode, body, res.Close)
		}
	}
}

func TestContinueIsSaidWhenTheUpstreamSaysSo(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	c, r := dial(t, front(t, up, nil))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if head, err := readHead(r); head != "HTTP/1.1 100 Continue\r\n" || err != nil {
		t.Fatal(head, err)
	}
	io.WriteString(c, "abcd")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "abcd" || res.StatusCode != http.StatusOK {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

func TestBothBodiesMayFlowAtOnce(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			_, _ = w.Write(buf[:n])
			_ = rc.Flush()
			if err != nil {
				return
			}
		}
	})
	c, r := dial(t, front(t, up, nil))
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "two"} {
		got := make([]byte, 3)
		if _, err := io.ReadFull(res.Body, got); string(got) != want || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if want == "one" {
			io.WriteString(c, "3\r\ntwo\r\n0\r\n\r\n")
		}
	}
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

// echo answers an upgrade and echoes raw bytes in upper case until the
// client has ended its half; then it says goodbye.
func echo(c net.Conn, r *bufio.Reader) {
	head, err := readHead(r)
	if err != nil || !strings.Contains(head, "Connection: Upgrade\r\n") {
		return
	}
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n"+
		"Sec-Websocket-Accept: x\r\nSet-Cookie: jumpgate-s=x\r\n\r\nhello ")
	for {
		b, err := r.ReadByte()
		if err != nil {
			io.WriteString(c, " bye")
			return
		}
		_, _ = c.Write(bytes.ToUpper([]byte{b}))
	}
}

const upgradeRequest = "GET /ws HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// outer is a middleware's writer, as logs and metrics have them.
type outer struct{ http.ResponseWriter }

func (o outer) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func TestUpgradedConnectionsCarryBytesBothWaysAndHalfClose(t *testing.T) {
	up := rawUpstream(t, echo)
	const limit = 40 * time.Millisecond
	p := newProxy(t, up, func(o *Options) { o.ProgressTimeout, o.ResponseHeaderTimeout = limit, 10*limit })
	address := frontHandler(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.ServeHTTP(outer{w}, r) }), limit)

	c, r := dial(t, address)
	io.WriteString(c, upgradeRequest+"early") // does not wait for the 101
	head, err := readHead(r)
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "Upgrade: echo\r\n") ||
		!strings.Contains(head, "Sec-Websocket-Accept: x\r\n") || strings.Contains(head, "jumpgate") {
		t.Fatal(head, err)
	}
	expect := func(want string) {
		t.Helper()
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); string(got) != want || err != nil {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	}
	expect("hello EARLY")
	for _, pause := range []time.Duration{0, 20 * limit} { // silence is no reason to end
		time.Sleep(pause)
		io.WriteString(c, "ping")
		expect("PING")
	}
	_ = c.(*net.TCPConn).CloseWrite()
	expect(" bye")
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
}

func TestWhatIsNoUpgradeStaysARequest(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Header.Get("Connection"), "|", r.Header.Get("Upgrade"))
	})
	address := front(t, up, nil)
	res, body := exchangeRaw(t, address, "GET / HTTP/1.1\r\nHost: m\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
	if res.StatusCode != 200 || body != "|" {
		t.Errorf("h2c: %d %q", res.StatusCode, body)
	}
	if res, body = exchangeRaw(t, address, upgradeRequest); res.StatusCode != 200 || body != "Upgrade|echo" {
		t.Errorf("declined: %d %q", res.StatusCode, body)
	}
}

func TestAnUpgradeToSomethingElseIsRefused(t *testing.T) {
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
			_, _ = io.Copy(io.Discard, r)
		}
	})
	for _, request := range []string{upgradeRequest, "GET / HTTP/1.1\r\nHost: m\r\n\r\n"} {
		if res, body := exchangeRaw(t, front(t, up, nil), request); res.StatusCode != http.StatusBadGateway {
			t.Errorf("%d %q", res.StatusCode, body)
		}
	}
}

func TestAnUpgradedConnectionEndsWithItsOtherSide(t *testing.T) {
	gone := make(chan bool)
	up := rawUpstream(t, func(c net.Conn, r *bufio.Reader) {
		echo(c, r)
		close(gone)
	})
	c, r := dial(t, front(t, up, nil))
	io.WriteString(c, upgradeRequest)
	if _, err := readHead(r); err != nil {
		t.Fatal(err)
	}
	c.Close()
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream's side is still open")
	}
}

func TestUploadsArriveAsTheyWere(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body)
		fmt.Fprintf(w, "%d %x", r.ContentLength, sum.Sum(nil))
	})
	address := front(t, up, nil)
	body := make([]byte, 300_001)
	_, _ = pattern{}.Read(body)
	sum := sha256.Sum256(body)
	for _, length := range []int64{int64(len(body)), -1} {
		req, _ := http.NewRequest(http.MethodPut, "http://"+address, io.MultiReader(bytes.NewReader(body)))
		req.ContentLength = length
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprintf("%d %s", length, hex.EncodeToString(sum[:])); string(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
