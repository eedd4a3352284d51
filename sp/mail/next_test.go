package mail_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// nextServer is a mail server that does what a test says: answer with
// something else than yes, never, or not at all.
type nextServer struct {
	offers []string // after EHLO

	// says returns the answer to the nth time that a command is said: "" for the
	// usual one, "hang" for none, "close" for the end of the connection. The
	// command is "" for the greeting and "." for the end of a mail.
	says func(command string, n int) string

	reads func(n int) // is called while a mail comes in, which is not kept then

	addr    string
	done    sync.WaitGroup
	release chan struct{} // ends what hangs

	mu    sync.Mutex
	mails []received
	said  map[string]int
}

type received struct {
	commands []string
	data     []byte
}

func newNext(t testing.TB, n *nextServer) *nextServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.addr, n.release, n.said = l.Addr().String(), make(chan struct{}), map[string]int{}
	if n.offers == nil {
		n.offers = []string{"8BITMIME", "SMTPUTF8", "SIZE 20000000", "PIPELINING", "DSN"}
	}
	n.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.done.Go(func() { n.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(n.release)
		n.done.Wait()
	})
	return n
}

// say answers to a command, and reports whether the connection goes on.
func (n *nextServer) say(c net.Conn, command, usual string) (answer string, on bool) {
	n.mu.Lock()
	n.said[command]++
	if n.says != nil {
		answer = n.says(command, n.said[command])
	}
	n.mu.Unlock()
	switch answer {
	case "":
		answer = usual
	case "hang":
		<-n.release
		return answer, false
	case "close":
		return answer, false
	}
	_, err := fmt.Fprintf(c, "%s\r\n", answer)
	return answer, err == nil && !strings.HasPrefix(answer, "421")
}

func (n *nextServer) serve(c net.Conn) {
	defer c.Close()
	n.done.Go(func() { <-n.release; c.Close() })
	if _, on := n.say(c, "", "220 next"); !on {
		return
	}
	r := bufio.NewReader(c)
	var m received
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		command, _, _ := strings.Cut(line, " ")
		if command = strings.ToUpper(command); command != "EHLO" && command != "QUIT" {
			m.commands = append(m.commands, line)
		}
		usual := "250 yes"
		switch command {
		case "EHLO":
			usual = "250-next\r\n250-" + strings.Join(n.offers, "\r\n250-") + "\r\n250 ENHANCEDSTATUSCODES"
		case "QUIT":
			usual = "221 bye"
		case "RSET":
			m = received{}
		case "DATA":
			usual = "354 go on"
		}
		answer, on := n.say(c, command, usual)
		if !on || command == "QUIT" {
			return
		}
		if !strings.HasPrefix(answer, "354") {
			continue
		}
		if m.data, err = n.data(r); err != nil {
			return
		}
		n.mu.Lock()
		n.mails = append(n.mails, m)
		n.mu.Unlock()
		if answer, on = n.say(c, ".", "250 2.0.0 queued as A1"); answer[0] == '4' || answer[0] == '5' {
			n.mu.Lock()
			n.mails = n.mails[:len(n.mails)-1]
			n.mu.Unlock()
		}
		if !on {
			return
		}
		m = received{}
	}
}

// data reads a mail up to its dot.
func (n *nextServer) data(r *bufio.Reader) ([]byte, error) {
	var b bytes.Buffer
	for {
		line, err := r.ReadBytes('\n')
		if err != nil || string(line) == ".\r\n" {
			return b.Bytes(), err
		}
		if n.reads != nil {
			n.reads(len(line))
			continue
		}
		b.Write(bytes.TrimPrefix(line, []byte(".")))
	}
}

// got returns the mails that the server has.
func (n *nextServer) got() []received {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]received(nil), n.mails...)
}
