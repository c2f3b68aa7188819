"""What schemathesis does not know of this server."""

import schemathesis


@schemathesis.hook
def map_query(context, query):
    # A process that waits for its input goes on for as long as somebody follows it.
    if query and "follow" in query:
        query = {**query, "follow": "false"}
    return query
